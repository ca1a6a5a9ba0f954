# The sources of the CPU's kernels, `cpu_sources`, each with the flags of its level.
#
# A source whose name ends in _<level> is compiled for that level of cpu/features.h, and may run only where it is in
# force. Levels in rising order, each with the flags of those before it.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
    set(levels avx2 avx512 avx512vnni avx512bf16 amx)
    set(foreign_levels neon dotprod i8mm)
    set(avx2_flags -mavx2 -mfma -mf16c)
    set(avx512_flags ${avx2_flags} -mavx512f -mavx512bw -mavx512vl -mavx512dq)
    set(avx512vnni_flags ${avx512_flags} -mavx512vnni)
    set(avx512bf16_flags ${avx512vnni_flags} -mavx512bf16)
    set(amx_flags ${avx512bf16_flags} -mamx-tile -mamx-int8 -mamx-bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(levels neon dotprod i8mm)
    set(foreign_levels avx2 avx512 avx512vnni avx512bf16 amx)
    set(dotprod_flags -march=armv8.2-a+dotprod+fp16)
    set(i8mm_flags -march=armv8.2-a+dotprod+fp16+i8mm)
else()
    set(foreign_levels avx2 avx512 avx512vnni avx512bf16 amx neon dotprod i8mm)
endif()

file(GLOB cpu_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/cpu/*.cpp")
foreach(level IN LISTS levels foreign_levels)
    set(${level}_sources ${cpu_sources})
    list(FILTER ${level}_sources INCLUDE REGEX "_${level}\\.cpp$")
    list(FILTER cpu_sources EXCLUDE REGEX "_${level}\\.cpp$")
endforeach()
# Sources stand in the order of their levels. Of an inline function that several of them compiled, the linker keeps the
# first, and so never one with instructions that the other's processor lacks.
foreach(level IN LISTS levels)
    list(APPEND cpu_sources ${${level}_sources})
    set_source_files_properties(${${level}_sources} PROPERTIES COMPILE_OPTIONS "${${level}_flags}")
endforeach()

# What this processor does not run needs no sanitizers: to compile them in takes nearly as long as all the rest.
if(GLASSCHAT_SANITIZE AND levels)
    execute_process(
        COMMAND "${CMAKE_CXX_COMPILER}" -march=native -dM -E -x c++ /dev/null
        OUTPUT_VARIABLE here COMMAND_ERROR_IS_FATAL ANY)
    set(avx2_macro __AVX2__)
    set(avx512_macro __AVX512DQ__)
    set(avx512vnni_macro __AVX512VNNI__)
    set(avx512bf16_macro __AVX512BF16__)
    set(amx_macro __AMX_INT8__)
    foreach(level IN LISTS levels)
        if(DEFINED ${level}_macro AND NOT here MATCHES "#define ${${level}_macro} 1")
            set_property(SOURCE ${${level}_sources} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=all -g0)
        endif()
    endforeach()
endif()

# a * b + c is rounded twice or once as it is written, so that every level rounds the same number to the same byte.
set(cpu_rounding -ffp-contract=off)
