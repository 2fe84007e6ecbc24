"""Read data files into rows with content ids, and split the rows into train, dev and test.

table = read_table(path)                                        # readers: csv, tsv, jsonl, parquet
dataset = read_dataset(path, input="text", target="label")      # dataset: checked, deduplicated rows
splits = split(dataset.rows, dev=300, test=300)                 # splits: by the rank of a hash, groups kept whole
check_labels(splits)                                            # every label of dev and test occurs in train
"""

from germinal.data.dataset import Dataset, Duplicate, Row, inputs_of, make_dataset, read_dataset, read_pairs
from germinal.data.readers import Record, Table, read_table
from germinal.data.splits import Splits, check_labels, split

__all__ = [
    "Dataset",
    "Duplicate",
    "Record",
    "Row",
    "Splits",
    "Table",
    "check_labels",
    "inputs_of",
    "make_dataset",
    "read_dataset",
    "read_pairs",
    "read_table",
    "split",
]
