"""The commands, a file each; they may import anything, and nothing imports them."""
