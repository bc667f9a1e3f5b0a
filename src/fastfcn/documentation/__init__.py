"""The documentation as a site that works offline: pages of docs/, a configuration reference from conf/, figures."""
