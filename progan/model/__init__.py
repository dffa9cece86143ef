"""The generator and the critic, and images from seeds."""
