// Memory is built in; the rest is for host code that is parsed and dropped.
#pragma once
#include <stddef.h>
#define EXIT_SUCCESS 0
#define EXIT_FAILURE 1
#define RAND_MAX 2147483647
void exit(int);
int rand();
void srand(unsigned);
int atoi(const char*);
double atof(const char*);
