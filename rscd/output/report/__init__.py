"""The report page: statistics, pictures, sections."""
