"""The API's methods, one module per family. Names of functions' parameters are the documented ones."""
