"""What is done with images, one folder per task: a card that says what it is for, and a `core.Task` behind it."""
