// printf is built in; the rest is for host code that is parsed and dropped.
#pragma once
struct FILE;
#define stdout ((FILE*)0)
#define stderr ((FILE*)0)
int fprintf(FILE*, const char*, ...);
int fflush(FILE*);
int puts(const char*);
