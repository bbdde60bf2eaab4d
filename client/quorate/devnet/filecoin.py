"""A Filecoin for one computer: Anvil with chain id 31415926 and the payment contracts; Filecoin's Ethereum side.

    with FilecoinDevnet(folder) as devnet:
        reader = SigningAccount.create()
        devnet.endow(reader.address)                    # FIL for gas, and tokens
        with closing(devnet.connect()) as chain:        # a pay.PayChain
            rails.fund(chain, reader, 10**18)

It writes folder/network.json, which `quorate-node filecoin network set --file` takes.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import TracebackType

from quorate.chain.abi import Contract
from quorate.chain.account import SigningAccount
from quorate.chain.calls import build
from quorate.chain.rpc import JsonRpc
from quorate.chain.types import to_hex
from quorate.devnet.anvil import start_anvil
from quorate.devnet.process import ProcessGroup
from quorate.filecoin.deploying import deploy_local
from quorate.filecoin.networks import DEVNET_CHAIN_ID, PaymentContracts, Settings
from quorate.filecoin.pay import PayChain
from quorate.protocol.types import Address

NETWORK_FILE = "network.json"
GAS_WEI = 100 * 10**18
TOKENS = 1_000 * 10**18


class FilecoinDevnet:
    """A chain that this process started. As a context it is ended, whatever happens. `port` 0 is any free one."""

    def __init__(
        self, folder: Path, *, port: int = 0, block_time_s: float = 1.0, lockup_period: int = 600, chain_id: int = 0
    ) -> None:
        self._folder, self._port, self._block_time_s = folder, port, block_time_s
        self._lockup_period, self._chain_id = lockup_period, chain_id or DEVNET_CHAIN_ID
        self._group: ProcessGroup | None = None
        self._rpc: JsonRpc | None = None
        self._contracts: PaymentContracts | None = None
        self.deployer = SigningAccount.create()

    @property
    def rpc(self) -> JsonRpc:
        """Anvil's endpoint."""
        assert self._rpc is not None, "the devnet was not started"
        return self._rpc

    @property
    def contracts(self) -> PaymentContracts:
        """What is deployed."""
        assert self._contracts is not None, "the devnet was not started"
        return self._contracts

    @property
    def settings(self) -> Settings:
        """Endpoint and contracts, as they are in `network_file`."""
        return Settings(self.rpc.url, self.contracts)

    @property
    def network_file(self) -> Path:
        """Where `settings` were saved."""
        return self._folder / NETWORK_FILE

    def start(self) -> FilecoinDevnet:
        """Start Anvil and deploy. Raises ConfigurationError without Anvil, Busy when the port is in use."""
        self._group = ProcessGroup(self._folder / "logs")
        try:
            _, self._rpc = start_anvil(
                self._group, port=self._port, chain_id=self._chain_id, block_time_s=self._block_time_s
            )
            self._set_gas(self.deployer.address)
            self._contracts = deploy_local(self._rpc.url, self.deployer, self._lockup_period)
            self.settings.save(self.network_file)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End what was started; may be called again."""
        if self._rpc is not None:
            self._rpc.close()
            self._rpc = None
        if self._group is not None:
            self._group.stop()
            self._group = None

    def connect(self) -> PayChain:
        """The payment contracts; to be closed by the caller."""
        return PayChain(self.rpc.url, self.contracts)

    def endow(self, account: Address, tokens: int = TOKENS) -> None:
        """FIL for gas as only a development chain gives it, and tokens of the deployer's."""
        self._set_gas(account)
        if tokens:
            with closing(self.connect()) as chain:
                chain.transact(self.deployer, build(Contract.TOKEN, "transfer", account, tokens))

    def mine(self, blocks: int = 1) -> None:
        """Make blocks at once."""
        self.rpc.call("anvil_mine", hex(blocks))

    def _set_gas(self, account: Address) -> None:
        self.rpc.call("anvil_setBalance", to_hex(account), hex(GAS_WEI))

    def __enter__(self) -> FilecoinDevnet:
        return self if self._group is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
