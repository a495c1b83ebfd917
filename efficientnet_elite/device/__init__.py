"""What a network costs on a device, computed without building it: size, memory, limits."""
