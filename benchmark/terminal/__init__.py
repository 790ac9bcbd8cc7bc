"""What is printed for people: trainings in progress, how runs stand, curves as text."""
