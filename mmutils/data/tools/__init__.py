"""What is done with the files of a data set: reading, checking, unpacking, fetching."""
