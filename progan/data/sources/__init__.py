"""Where images come from: folders, archives, arrays, databases, shards, known sets."""
