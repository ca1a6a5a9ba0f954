// What there is to try. Each compares kernels over a grid of inputs, through the functions that the program calls, with
// what float64 gives, and reports what it finds.
#pragma once

#include "cpu/matmul.h"
#include "cpu/probe.h"

namespace grid {

void dispatch_grid();
void matmul_grid();
void bf16_matmul_grid(const char* name, glasschat::cpu::Multiply multiply);
void int8_matmul_grid(const char* name, glasschat::cpu::Multiply multiply);
void attention_grid();
void rows_grid();
void probe_grid();
void tile_probes_grid(const char* name, const glasschat::cpu::ProbeKernels& probe,
                      const glasschat::cpu::Bf16Probe& pairs);
void tiles_grid();

}  // namespace grid
