"""What a program needs from the machine it runs on."""
