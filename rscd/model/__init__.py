"""The change network: an encoder shared by both dates, STFE, MSDF; its checkpoint and the registry of models."""
