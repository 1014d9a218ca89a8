"For instructors: the student's edition, and marks."
