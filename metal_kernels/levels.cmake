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

# a * b + c is rounded twice or once as it is written, so that every level rounds the same number to the same byte.
set(cpu_rounding -ffp-contract=off)
