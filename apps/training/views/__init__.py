"""The model factory's pages: models and their cards for everybody, what shows photos for experts and staff."""
