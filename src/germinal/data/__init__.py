"""Data files become rows with content ids, and rows become a training, a dev and a test split.

table = read_table(path)                                        # readers: csv, tsv, jsonl, parquet
dataset = read_dataset(path, input="text", target="label")      # dataset: checked, deduplicated rows
splits = split(dataset.rows, dev=300, test=300)                 # splits: by rank of a hash, groups kept whole
check_labels(splits)                                            # every label of dev and test can be learned
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
