# llama-cpp-python switches llama.cpp's "common" library on; s3local loads only llama and ggml.
# scripts/setup.py has CMake read this file after the project() line. The plain variable hides the cached one,
# so that 74 files are compiled in place of 178.
set(LLAMA_BUILD_COMMON OFF)
