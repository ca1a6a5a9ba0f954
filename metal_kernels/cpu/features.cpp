#include "cpu/features.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace glasschat::cpu {

namespace {

#if defined(__x86_64__)

constexpr std::array<std::string_view, 6> kNames{"portable", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx"};

struct CpuId {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;  // zeros, that is: nothing, where the leaf does not exist

    explicit CpuId(uint32_t leaf, uint32_t subleaf = 0) { __get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx); }
};

constexpr bool has_all(uint64_t word, std::initializer_list<int> bits) {
    for (const int bit : bits) {
        if (!(word >> bit & 1)) {
            return false;
        }
    }
    return true;
}

// The register sets that the operating system saves: a processor's instructions are of no use without them.
uint64_t saved_registers() {
    uint32_t low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return uint64_t{high} << 32 | low;
}

// Linux hands out the tile registers on request, to a whole process at once.
bool request_tiles() {
#if defined(__linux__)
    constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr int kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}

Level detect() {
    const CpuId basic(1), extended(7), more(7, 1);
    if (!has_all(basic.ecx, {12, 27, 28, 29})) {  // FMA, OSXSAVE, AVX, F16C
        return Level::portable;
    }
    const uint64_t saved = saved_registers();
    if (!has_all(saved, {1, 2}) || !has_all(extended.ebx, {5})) {  // XMM and YMM; AVX2
        return Level::portable;
    }
    // Opmasks and both halves of ZMM; AVX-512 F, DQ, BW, VL.
    if (!has_all(saved, {5, 6, 7}) || !has_all(extended.ebx, {16, 17, 30, 31})) {
        return Level::avx2;
    }
    if (!has_all(extended.ecx, {11})) {
        return Level::avx512;
    }
    if (!has_all(more.eax, {5})) {
        return Level::avx512vnni;
    }
    // Tile configuration and data; AMX-BF16, AMX-TILE, AMX-INT8.
    if (!has_all(saved, {17, 18}) || !has_all(extended.edx, {22, 24, 25}) || !request_tiles()) {
        return Level::avx512bf16;
    }
    return Level::amx;
}

#elif defined(__aarch64__)

constexpr std::array<std::string_view, 4> kNames{"portable", "neon", "dotprod", "i8mm"};

Level highest(bool dotprod_and_fp16, bool i8mm) {
    return !dotprod_and_fp16 ? Level::neon : i8mm ? Level::i8mm : Level::dotprod;
}

#if defined(__APPLE__)

bool has(const char* feature) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value;
}

Level detect() {
    return highest(
        has("hw.optional.arm.FEAT_DotProd") && has("hw.optional.arm.FEAT_FP16"), has("hw.optional.arm.FEAT_I8MM"));
}

#else

Level detect() {
    // HWCAP_FPHP, HWCAP_ASIMDHP and HWCAP_ASIMDDP; HWCAP2_I8MM. Numbers, because old headers lack the names.
    constexpr unsigned long kDotprodAndFp16 = 1ul << 9 | 1ul << 10 | 1ul << 20;
    return highest((getauxval(AT_HWCAP) & kDotprodAndFp16) == kDotprodAndFp16, getauxval(AT_HWCAP2) >> 13 & 1);
}

#endif

#else

constexpr std::array<std::string_view, 1> kNames{"portable"};

Level detect() {
    return Level::portable;
}

#endif

// `asked_by` begins the sentence of the exception.
Level find(std::string_view wanted, const std::string& asked_by) {
    std::string known;
    for (const Level each : supported_levels()) {
        if (name(each) == wanted) {
            return each;
        }
        known.append(known.empty() ? "" : ", ").append(name(each));
    }
    throw std::invalid_argument(asked_by + std::string(wanted) + " is not a level of this processor, which has " + known);
}

Level from_environment() {
    const char* wanted = std::getenv("GLASSCHAT_CPU");
    return wanted && *wanted ? find(wanted, "GLASSCHAT_CPU=") : supported();
}

std::atomic<Level>& in_force() {
    static std::atomic<Level> value{from_environment()};
    return value;
}

}  // namespace

std::string_view name(Level level) {
    return kNames[static_cast<std::size_t>(level)];
}

Level supported() {
    static const Level value = detect();
    return value;
}

std::vector<Level> supported_levels() {
    std::vector<Level> levels;
    for (int i = 0; i <= static_cast<int>(supported()); i++) {
        levels.push_back(static_cast<Level>(i));
    }
    return levels;
}

Level level() {
    return in_force().load(std::memory_order_relaxed);
}

void set_level(std::string_view name) {
    in_force().store(find(name, ""), std::memory_order_relaxed);
}

}  // namespace glasschat::cpu
