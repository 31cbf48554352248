// A program of its own: prints as JSON what systeminformation knows of the CPU and the operating system, and ends.

import { cpu, osInfo } from 'systeminformation'

const [processor, system] = await Promise.all([cpu(), osInfo()])
process.stdout.write(
  JSON.stringify({
    cpuModel: `${processor.manufacturer} ${processor.brand}`.trim(),
    operatingSystem: `${system.distro} ${system.release}`.trim()
  })
)
