"For authors: the notebooks of a project, found, read, exported and run."
