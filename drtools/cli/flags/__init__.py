"""Groups of flags that several tools share."""
