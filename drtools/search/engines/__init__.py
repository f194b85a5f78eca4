"""Engines that hold vectors behind a server: one file each, with the functions of `engine.Engine`."""
