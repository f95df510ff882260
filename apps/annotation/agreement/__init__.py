"""How far several answers for one photo agree. Pure: boxes in, numbers out; no Django, no database."""
