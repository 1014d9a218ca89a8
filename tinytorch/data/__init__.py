"Files that the lessons read: recorded values of PyTorch, the names of other libraries, a text."
