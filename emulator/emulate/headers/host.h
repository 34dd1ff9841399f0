// Stands for headers whose own content only host code uses, or is built in; what they bring along on a host comes too.
#pragma once
#include <algorithm>
#include <limits>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <utility>
