// The build holds the other end of this process's standard input, which closes when the build ends, however it ends.
process.stdin.on("end", () => process.exit()).resume();
