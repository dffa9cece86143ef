"""What a run is to do: settings, and the schedule that they describe."""
