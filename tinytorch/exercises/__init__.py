"For students: exercises, and what is said about answers."
