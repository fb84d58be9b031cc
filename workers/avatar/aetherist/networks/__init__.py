"""The networks in the order in which data flows: mapping → synthesis → rays → renderer (decoder) → super-resolution."""
