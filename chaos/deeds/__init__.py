"""What can be done to a service: each deed is one function of the stage, and writes down what it does before it does it."""
