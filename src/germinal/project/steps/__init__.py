"""The kinds of steps, one file each. A new stage of the life cycle is a new file here and a place in the plan."""
