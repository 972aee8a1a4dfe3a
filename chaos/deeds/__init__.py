"""What can be done to a service: a deed is a function of the stage, and is written down before it is done."""
