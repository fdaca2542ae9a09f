//! The program. See `circuit-scaling --help`, and the library for what it does.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    circuit_scaling::main()
}
