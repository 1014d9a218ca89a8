"For readers: the pages of the documentation."
