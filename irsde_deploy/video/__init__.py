"""Video: files and pipes, from the frames of a source to an output with its sound, times and colours."""
