"""The version of rscd; the build reads it here."""

VERSION = "0.1.0"
