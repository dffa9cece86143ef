"""From images anywhere to an endless, resumable stream of batches at any resolution."""
