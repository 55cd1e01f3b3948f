"""How work runs and tells how far it is: processes that are replaced when they die and never outlive the command."""
