"""What a program needs from the machine that it runs on."""
