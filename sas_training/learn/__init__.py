"""From a recording to a student: the stages of SAS behind one configuration file."""
