"""Reads a compose file as the compose specification has it, with the defaults of its variables: an unknown key, a word where
a time, a port or a truth value belongs, or a condition that is none ends it with the place.
"""
import json
import re
import sys

import yaml
from compose_spec import PyCompose

text = open(sys.argv[1], encoding="utf-8").read()
text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)
PyCompose.from_json(json.dumps(yaml.safe_load(text)))
