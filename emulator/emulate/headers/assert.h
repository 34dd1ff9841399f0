// An assertion that fails ends the emulated kernel with its text.
#pragma once
extern "C" __host__ __device__ void __assertfail(const char* message, const char* file, unsigned line, const char* function, size_t char_size);
#undef assert
#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
#define assert(condition) ((condition) ? (void)0 : __assertfail(#condition, __FILE__, __LINE__, __func__, 1))
#endif
