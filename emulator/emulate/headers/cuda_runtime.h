// The runtime's types are built in; its functions are for host code, which is dropped.
#pragma once
#include <stdint.h>
#include <cuda.h>
