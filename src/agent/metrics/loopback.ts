// An address of the loopback with a port, as the configuration has it.

export interface ListenAddress {
  readonly address: string
  readonly port: number
}

/** `127.0.0.1:9177` or `[::1]:9177`; undefined for what is not on the loopback, or has no port. */
export function parseLoopback(text: string): ListenAddress | undefined {
  const match = /^(?:(127(?:\.\d{1,3}){3})|\[(::1)\]):(\d{1,5})$/.exec(text)
  const [address, port] = [match?.[1] ?? match?.[2], Number(match?.[3])]
  const isAddress = address?.split('.').every((part) => part === '::1' || Number(part) <= 255)
  return address !== undefined && isAddress === true && port >= 1 && port <= 65_535
    ? { address, port }
    : undefined
}
