// What the toolkit's compiler includes before any text: numbers, their limits and functions, assertions.
#pragma once
#include <stdint.h>
#include <stddef.h>
#include <limits.h>
#include <float.h>
#include <math.h>
#include <assert.h>
#include <algorithm>
typedef unsigned char u_char;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
// Texts that ask which system a host has.
#ifndef __linux__
#define __linux__ 1
#endif
// All memory of the emulated device is managed.
#undef __managed__
#define __managed__ __device__
