"""Changes a SIF image in place, so that at every moment it is the old image or the new one.

locked_file: Finds and locks the file, and checks that it is unchanged and that no other process writes it.
assembly: Plans what is written where.
inplace: Writes it so that it can be undone.
detached_write: Does so in a child process that is not killed with the command.
editing: The interface to all of this.
"""
