"""What anyone may look through: filters, the gallery's pages, the map's windows. Only public data, whoever asks."""
