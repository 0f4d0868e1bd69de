"""The command line: which verb, and what does a person see?"""
