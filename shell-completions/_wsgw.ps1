
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'wsgw' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'wsgw'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'wsgw' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('serve', 'serve', [CompletionResultType]::ParameterValue, 'Run gateways until SIGINT or SIGTERM')
            [CompletionResult]::new('send', 'send', [CompletionResultType]::ParameterValue, 'Send a message to the connected clients')
            [CompletionResult]::new('connect', 'connect', [CompletionResultType]::ParameterValue, 'Connect to a WebSocket server, at a terminal or in a pipe')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'Show state, address, connections, listener and messages of all gateways, or of one')
            [CompletionResult]::new('start', 'start', [CompletionResultType]::ParameterValue, 'Start a gateway')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop a gateway and close its connections with code 1001')
            [CompletionResult]::new('restart', 'restart', [CompletionResultType]::ParameterValue, 'Restart a gateway, or only its listener')
            [CompletionResult]::new('reload', 'reload', [CompletionResultType]::ParameterValue, 'Read the config file again; an invalid file changes nothing')
            [CompletionResult]::new('connections', 'connections', [CompletionResultType]::ParameterValue, 'List the open connections of all gateways, or of one')
            [CompletionResult]::new('channels', 'channels', [CompletionResultType]::ParameterValue, 'List the channels of all gateways, or of one, or show one channel')
            [CompletionResult]::new('history', 'history', [CompletionResultType]::ParameterValue, 'Print the messages that a gateway keeps, one per line')
            [CompletionResult]::new('close', 'close', [CompletionResultType]::ParameterValue, 'Close one connection')
            [CompletionResult]::new('open', 'open', [CompletionResultType]::ParameterValue, 'Open the operators'' page in a browser: print a link that is good once, for a minute')
            [CompletionResult]::new('top', 'top', [CompletionResultType]::ParameterValue, 'Watch gateways in the terminal')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Try a listener: start it, send it what a gateway sends, and say what is wrong with it')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Load a gateway, or another WebSocket server, and report rates, latencies and losses')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print the completion script for a shell')
            [CompletionResult]::new('man', 'man', [CompletionResultType]::ParameterValue, 'Write the man pages')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'wsgw;serve' {
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file (TOML) [default: wsgw/wsgw.toml in the user''s config directory, then /etc/wsgw/wsgw.toml]')
            [CompletionResult]::new('--id', '--id', [CompletionResultType]::ParameterName, 'Id of the gateway that the flags apply to [default: default]')
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'Control port: ADDR:PORT, unix:PATH or off [default: 127.0.0.1:10124]')
            [CompletionResult]::new('--control-token-file', '--control-token-file', [CompletionResultType]::ParameterName, 'Read the control token from this file instead of making a new one')
            [CompletionResult]::new('--log-dir', '--log-dir', [CompletionResultType]::ParameterName, 'Directory of WebSocket.log; it must be writable [default: logs in the user''s state directory]')
            [CompletionResult]::new('--log-level', '--log-level', [CompletionResultType]::ParameterName, 'Log level: error, warn, info, debug, trace, or a filter as in RUST_LOG [default: info]')
            [CompletionResult]::new('--host', '--host', [CompletionResultType]::ParameterName, 'Address or name to bind (if a name has several addresses, one is bound, IPv4 first), or unix:PATH [default: 127.0.0.1]')
            [CompletionResult]::new('--port', '--port', [CompletionResultType]::ParameterName, 'Port to bind; 0 takes a free one [default: 10125]')
            [CompletionResult]::new('--startup', '--startup', [CompletionResultType]::ParameterName, 'When the gateway starts: automatic (with serve), manual (by wsgw start) or disabled [default: automatic]')
            [CompletionResult]::new('--listener', '--listener', [CompletionResultType]::ParameterName, 'Command line of the listener, run by `sh -c`')
            [CompletionResult]::new('--hooks', '--hooks', [CompletionResultType]::ParameterName, 'Events that the listener is sent: onHandshake, onClientOpen, onJoin, onMessage, onLeave, onClientClose, or none [default: onClientOpen,onClientClose,onMessage]')
            [CompletionResult]::new('--route', '--route', [CompletionResultType]::ParameterName, 'Recipients of a message if the answer names none: all, others, sender, channels (the members of the sender''s) or none [default: all]')
            [CompletionResult]::new('--headers', '--headers', [CompletionResultType]::ParameterName, 'Request headers that the listener sees; * for all [default: origin, cookie, authorization, user-agent, x-forwarded-for, x-*]')
            [CompletionResult]::new('--protocol', '--protocol', [CompletionResultType]::ParameterName, 'Subprotocol to accept (repeatable); * accepts the client''s first offer [default: *]')
            [CompletionResult]::new('--path', '--path', [CompletionResultType]::ParameterName, 'Path that accepts connections (repeatable); * spans any characters [default: any]')
            [CompletionResult]::new('--streams', '--streams', [CompletionResultType]::ParameterName, 'Also serve streams over plain HTTP: server-sent events, lines, raw bodies, polls, and POST [default: false]')
            [CompletionResult]::new('--static', '--static', [CompletionResultType]::ParameterName, 'Directory of static files to serve')
            [CompletionResult]::new('--console', '--console', [CompletionResultType]::ParameterName, 'Serve a page at / to try the gateway with [default: true on a loopback address or a unix socket]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Form of what the listener reads and writes: json (events and answers) or lines (bare messages) [default: json]')
            [CompletionResult]::new('--compression', '--compression', [CompletionResultType]::ParameterName, 'Compression of messages (permessage-deflate): off or shared (once for all clients) [default: off]')
            [CompletionResult]::new('--channels', '--channels', [CompletionResultType]::ParameterName, 'Where a client''s first channels come from: off (the listener alone), path or query (of the URL) [default: off]')
            [CompletionResult]::new('--allow-channels', '--allow-channels', [CompletionResultType]::ParameterName, 'Channels that a URL may ask for (repeatable); * spans any characters')
            [CompletionResult]::new('--presence', '--presence', [CompletionResultType]::ParameterName, 'Channels whose members are told who joins and leaves (repeatable); * spans any characters')
            [CompletionResult]::new('--history', '--history', [CompletionResultType]::ParameterName, 'Number of messages to keep of each channel, and of what goes to all clients')
            [CompletionResult]::new('--cluster', '--cluster', [CompletionResultType]::ParameterName, 'How messages are shared with other nodes: off, ordered (one order on all nodes) or core [default: off]')
            [CompletionResult]::new('--on-engine-loss', '--on-engine-loss', [CompletionResultType]::ParameterName, 'What happens while no NATS server can be reached: local (own clients get their messages) or hold [default: local]')
            [CompletionResult]::new('--window', '--window', [CompletionResultType]::ParameterName, 'Maximum number of unanswered events [default: 256]')
            [CompletionResult]::new('--listener-timeout', '--listener-timeout', [CompletionResultType]::ParameterName, 'How long an answer may take [default: 10s]')
            [CompletionResult]::new('--on-timeout', '--on-timeout', [CompletionResultType]::ParameterName, 'What happens to a message without an answer: drop, broadcast or close [default: drop]')
            [CompletionResult]::new('--hang-timeout', '--hang-timeout', [CompletionResultType]::ParameterName, 'Time without output after which a listener that owes an answer is killed; at least twice listener-timeout [default: 30s]')
            [CompletionResult]::new('--restart-delay-max', '--restart-delay-max', [CompletionResultType]::ParameterName, 'Longest delay before a listener is restarted [default: 30s]')
            [CompletionResult]::new('--drain', '--drain', [CompletionResultType]::ParameterName, 'How long a stop waits for unanswered events [default: 1s]')
            [CompletionResult]::new('--close-spread', '--close-spread', [CompletionResultType]::ParameterName, 'Time over which a stop closes the clients, so that they do not all reconnect at once [default: 0]')
            [CompletionResult]::new('--producer-wait', '--producer-wait', [CompletionResultType]::ParameterName, 'How long a stream of messages waits in total for one client that is slow but still reading [default: 10s]')
            [CompletionResult]::new('--max-connections', '--max-connections', [CompletionResultType]::ParameterName, 'Maximum number of connections [default: 1000000]')
            [CompletionResult]::new('--max-connections-per-ip', '--max-connections-per-ip', [CompletionResultType]::ParameterName, 'Maximum number of connections from one address (IPv6: one /64); 0 means no limit [default: 0]')
            [CompletionResult]::new('--max-channels', '--max-channels', [CompletionResultType]::ParameterName, 'Maximum number of channels that one connection is in [default: 64]')
            [CompletionResult]::new('--handshake-timeout', '--handshake-timeout', [CompletionResultType]::ParameterName, 'Time to receive the request of a handshake [default: 10s]')
            [CompletionResult]::new('--max-message', '--max-message', [CompletionResultType]::ParameterName, 'Largest message from a client [default: 1MiB]')
            [CompletionResult]::new('--max-queue', '--max-queue', [CompletionResultType]::ParameterName, 'Maximum number of bytes that wait for one slow client [default: 4MiB]')
            [CompletionResult]::new('--ping-interval', '--ping-interval', [CompletionResultType]::ParameterName, 'Time between pings; 0 means no pings [default: 30s]')
            [CompletionResult]::new('--pong-timeout', '--pong-timeout', [CompletionResultType]::ParameterName, 'Time to answer a ping [default: 30s]')
            [CompletionResult]::new('--idle-timeout', '--idle-timeout', [CompletionResultType]::ParameterName, 'Time without a message in either direction after which a connection is closed; 0 means never [default: 0]')
            [CompletionResult]::new('--allow-origin', '--allow-origin', [CompletionResultType]::ParameterName, 'Origin that may connect (repeatable): scheme://host or scheme://host:port, with * as a wildcard [default: localhost on a loopback address, else the same host]')
            [CompletionResult]::new('--trusted-proxies', '--trusted-proxies', [CompletionResultType]::ParameterName, 'Proxy (address or CIDR) whose X-Forwarded-For is trusted (repeatable)')
            [CompletionResult]::new('--proxy-protocol', '--proxy-protocol', [CompletionResultType]::ParameterName, 'Expect the PROXY protocol (v1 or v2) on each connection, from trusted-proxies alone [default: false]')
            [CompletionResult]::new('--mode', '--mode', [CompletionResultType]::ParameterName, 'Mode of the unix socket [default: 0600]')
            [CompletionResult]::new('--group', '--group', [CompletionResultType]::ParameterName, 'Group of the unix socket')
            [CompletionResult]::new('--max-rate', '--max-rate', [CompletionResultType]::ParameterName, 'Maximum number of messages per second from one connection; 0 means no limit [default: 0]')
            [CompletionResult]::new('--max-line', '--max-line', [CompletionResultType]::ParameterName, 'Longest line from the listener; at least six times max-message plus 64KiB [default: 16MiB]')
            [CompletionResult]::new('--tls-cert', '--tls-cert', [CompletionResultType]::ParameterName, 'Certificate chain (PEM) for wss')
            [CompletionResult]::new('--tls-key', '--tls-key', [CompletionResultType]::ParameterName, 'Private key (PEM) for wss')
            [CompletionResult]::new('--check-config', '--check-config', [CompletionResultType]::ParameterName, 'Say whether the config file and the flags are good, with all that is wrong; bind and start nothing')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Do not log to stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Do not log to stderr')
            [CompletionResult]::new('--plain', '--plain', [CompletionResultType]::ParameterName, 'The listener reads and writes bare messages, a line each: the same as --format lines')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;send' {
            [CompletionResult]::new('-g', '-g', [CompletionResultType]::ParameterName, 'The gateway; may be left out when only one runs')
            [CompletionResult]::new('--gateway', '--gateway', [CompletionResultType]::ParameterName, 'The gateway; may be left out when only one runs')
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'Send only to this connection (repeatable)')
            [CompletionResult]::new('--except', '--except', [CompletionResultType]::ParameterName, 'Do not send to this connection (repeatable)')
            [CompletionResult]::new('--channel', '--channel', [CompletionResultType]::ParameterName, 'Send only to the members of this channel (repeatable)')
            [CompletionResult]::new('--data', '--data', [CompletionResultType]::ParameterName, 'Send this JSON object, which has the key message or base64')
            [CompletionResult]::new('--retry', '--retry', [CompletionResultType]::ParameterName, 'Keep trying for this time if the control port cannot be reached: seconds, or 1m30s')
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--base64', '--base64', [CompletionResultType]::ParameterName, 'Read the message as base64 and send it as binary')
            [CompletionResult]::new('--binary', '--binary', [CompletionResultType]::ParameterName, 'Send stdin as one binary message')
            [CompletionResult]::new('--lines', '--lines', [CompletionResultType]::ParameterName, 'Send each line of stdin as one message, as soon as it arrives')
            [CompletionResult]::new('--no-hook', '--no-hook', [CompletionResultType]::ParameterName, 'Do not pass the message through the listener')
            [CompletionResult]::new('--require-one', '--require-one', [CompletionResultType]::ParameterName, 'Fail (exit code 4) if no client got the message')
            [CompletionResult]::new('--require-all-nodes', '--require-all-nodes', [CompletionResultType]::ParameterName, 'Fail (exit code 4) if a node of the cluster did not say in time what came of it')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print the result as JSON')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;connect' {
            [CompletionResult]::new('-H', '-H ', [CompletionResultType]::ParameterName, 'Add a request header, or all headers in a file, one per line (repeatable)')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Add a request header, or all headers in a file, one per line (repeatable)')
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'Offer a subprotocol (repeatable)')
            [CompletionResult]::new('--subprotocol', '--subprotocol', [CompletionResultType]::ParameterName, 'Offer a subprotocol (repeatable)')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Send this Origin header')
            [CompletionResult]::new('--origin', '--origin', [CompletionResultType]::ParameterName, 'Send this Origin header')
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'Use basic authentication; with NAME alone, ask for the password at the terminal')
            [CompletionResult]::new('--user', '--user', [CompletionResultType]::ParameterName, 'Use basic authentication; with NAME alone, ask for the password at the terminal')
            [CompletionResult]::new('--user-file', '--user-file', [CompletionResultType]::ParameterName, 'Use basic authentication with the NAME:PASSWORD in this file')
            [CompletionResult]::new('-x', '-x', [CompletionResultType]::ParameterName, 'Send this message after connecting (repeatable); stdin is not read, except with -w -1 at a terminal')
            [CompletionResult]::new('--execute', '--execute', [CompletionResultType]::ParameterName, 'Send this message after connecting (repeatable); stdin is not read, except with -w -1 at a terminal')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Leave after N received messages')
            [CompletionResult]::new('--count', '--count', [CompletionResultType]::ParameterName, 'Leave after N received messages')
            [CompletionResult]::new('-w', '-w', [CompletionResultType]::ParameterName, 'After the end of stdin, leave if no message arrives for this time; -1 stays [default: 1; with -n or --echo: -1]')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'After the end of stdin, leave if no message arrives for this time; -1 stays [default: 1; with -n or --echo: -1]')
            [CompletionResult]::new('--proxy', '--proxy', [CompletionResultType]::ParameterName, 'Connect through this proxy: http://, https:// or socks5h://, with USER:PASSWORD@ before the host; '''' uses none; loopback needs none [env: https_proxy, http_proxy, all_proxy, no_proxy]')
            [CompletionResult]::new('--ping', '--ping', [CompletionResultType]::ParameterName, 'Send a ping at this interval')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Time for the whole handshake')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours: auto (on a terminal, unless NO_COLOR is set), always or never')
            [CompletionResult]::new('--cacert', '--cacert', [CompletionResultType]::ParameterName, 'Trust the certificates in this file (PEM)')
            [CompletionResult]::new('--cert', '--cert', [CompletionResultType]::ParameterName, 'Use this client certificate (PEM)')
            [CompletionResult]::new('--key', '--key', [CompletionResultType]::ParameterName, 'Use this key for the client certificate (PEM)')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'Send lines as binary messages, and write received messages raw, without a newline')
            [CompletionResult]::new('--binary', '--binary', [CompletionResultType]::ParameterName, 'Send lines as binary messages, and write received messages raw, without a newline')
            [CompletionResult]::new('-L', '-L ', [CompletionResultType]::ParameterName, 'Follow up to five redirects; -H, user and password and --cert go to the same host only')
            [CompletionResult]::new('--location', '--location', [CompletionResultType]::ParameterName, 'Follow up to five redirects; -H, user and password and --cert go to the same host only')
            [CompletionResult]::new('--compress', '--compress', [CompletionResultType]::ParameterName, 'Offer compression (permessage-deflate)')
            [CompletionResult]::new('--reconnect', '--reconnect', [CompletionResultType]::ParameterName, 'Reconnect, with growing delays, after a failure, a lost connection or a close code other than 1000')
            [CompletionResult]::new('--resume', '--resume', [CompletionResultType]::ParameterName, 'Reconnect in the same way, and get the messages that were missed; the server must speak wsgw.v1')
            [CompletionResult]::new('--echo', '--echo', [CompletionResultType]::ParameterName, 'Send each received message back')
            [CompletionResult]::new('--pretty', '--pretty', [CompletionResultType]::ParameterName, 'Indent JSON messages')
            [CompletionResult]::new('--timestamps', '--timestamps', [CompletionResultType]::ParameterName, 'Print the time before each message')
            [CompletionResult]::new('--insecure', '--insecure', [CompletionResultType]::ParameterName, 'Do not check the server''s certificate')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show the handshake')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show the handshake')
            [CompletionResult]::new('--no-history', '--no-history', [CompletionResultType]::ParameterName, 'Neither read nor write the history file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;status' {
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--nodes', '--nodes', [CompletionResultType]::ParameterName, 'Show the nodes of the gateway''s cluster')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;start' {
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;stop' {
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;restart' {
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--listener', '--listener', [CompletionResultType]::ParameterName, 'Restart only the listener; the clients stay connected')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;reload' {
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;connections' {
            [CompletionResult]::new('--channel', '--channel', [CompletionResultType]::ParameterName, 'Show only the members of this channel')
            [CompletionResult]::new('--limit', '--limit', [CompletionResultType]::ParameterName, 'Show at most N connections of each gateway')
            [CompletionResult]::new('--after', '--after', [CompletionResultType]::ParameterName, 'Show only those that connected after this connection, which may be closed')
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'Of a cluster''s nodes, ask only this one')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;channels' {
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'Count only the members on this node of a cluster')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;history' {
            [CompletionResult]::new('--channel', '--channel', [CompletionResultType]::ParameterName, 'Print only the messages of this channel (repeatable)')
            [CompletionResult]::new('--since', '--since', [CompletionResultType]::ParameterName, 'Print only what came since: last, a number of messages of each channel, a duration such as 5m, or a position')
            [CompletionResult]::new('--limit', '--limit', [CompletionResultType]::ParameterName, 'Print at most N messages: the oldest after a position, else the newest')
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON frames, which have the positions')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;close' {
            [CompletionResult]::new('--code', '--code', [CompletionResultType]::ParameterName, 'Send this close code')
            [CompletionResult]::new('--reason', '--reason', [CompletionResultType]::ParameterName, 'Send this close reason')
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;open' {
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--print', '--print', [CompletionResultType]::ParameterName, 'Print the link, and open no browser')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;top' {
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'File that holds the control token [env: WSGW_TOKEN holds the token itself]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the answer: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;check' {
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'Path and query of the clients that are played [default: the first path of the gateway, or /]')
            [CompletionResult]::new('-H', '-H ', [CompletionResultType]::ParameterName, 'A request header of the clients that are played (repeatable)')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'A request header of the clients that are played (repeatable)')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file (TOML) [default: wsgw/wsgw.toml in the user''s config directory, then /etc/wsgw/wsgw.toml]')
            [CompletionResult]::new('--id', '--id', [CompletionResultType]::ParameterName, 'Id of the gateway that the flags apply to [default: default]')
            [CompletionResult]::new('--control', '--control', [CompletionResultType]::ParameterName, 'Control port: ADDR:PORT, unix:PATH or off [default: 127.0.0.1:10124]')
            [CompletionResult]::new('--control-token-file', '--control-token-file', [CompletionResultType]::ParameterName, 'Read the control token from this file instead of making a new one')
            [CompletionResult]::new('--log-dir', '--log-dir', [CompletionResultType]::ParameterName, 'Directory of WebSocket.log; it must be writable [default: logs in the user''s state directory]')
            [CompletionResult]::new('--log-level', '--log-level', [CompletionResultType]::ParameterName, 'Log level: error, warn, info, debug, trace, or a filter as in RUST_LOG [default: info]')
            [CompletionResult]::new('--host', '--host', [CompletionResultType]::ParameterName, 'Address or name to bind (if a name has several addresses, one is bound, IPv4 first), or unix:PATH [default: 127.0.0.1]')
            [CompletionResult]::new('--port', '--port', [CompletionResultType]::ParameterName, 'Port to bind; 0 takes a free one [default: 10125]')
            [CompletionResult]::new('--startup', '--startup', [CompletionResultType]::ParameterName, 'When the gateway starts: automatic (with serve), manual (by wsgw start) or disabled [default: automatic]')
            [CompletionResult]::new('--listener', '--listener', [CompletionResultType]::ParameterName, 'Command line of the listener, run by `sh -c`')
            [CompletionResult]::new('--hooks', '--hooks', [CompletionResultType]::ParameterName, 'Events that the listener is sent: onHandshake, onClientOpen, onJoin, onMessage, onLeave, onClientClose, or none [default: onClientOpen,onClientClose,onMessage]')
            [CompletionResult]::new('--route', '--route', [CompletionResultType]::ParameterName, 'Recipients of a message if the answer names none: all, others, sender, channels (the members of the sender''s) or none [default: all]')
            [CompletionResult]::new('--headers', '--headers', [CompletionResultType]::ParameterName, 'Request headers that the listener sees; * for all [default: origin, cookie, authorization, user-agent, x-forwarded-for, x-*]')
            [CompletionResult]::new('--protocol', '--protocol', [CompletionResultType]::ParameterName, 'Subprotocol to accept (repeatable); * accepts the client''s first offer [default: *]')
            [CompletionResult]::new('--path', '--path', [CompletionResultType]::ParameterName, 'Path that accepts connections (repeatable); * spans any characters [default: any]')
            [CompletionResult]::new('--streams', '--streams', [CompletionResultType]::ParameterName, 'Also serve streams over plain HTTP: server-sent events, lines, raw bodies, polls, and POST [default: false]')
            [CompletionResult]::new('--static', '--static', [CompletionResultType]::ParameterName, 'Directory of static files to serve')
            [CompletionResult]::new('--console', '--console', [CompletionResultType]::ParameterName, 'Serve a page at / to try the gateway with [default: true on a loopback address or a unix socket]')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'Form of what the listener reads and writes: json (events and answers) or lines (bare messages) [default: json]')
            [CompletionResult]::new('--compression', '--compression', [CompletionResultType]::ParameterName, 'Compression of messages (permessage-deflate): off or shared (once for all clients) [default: off]')
            [CompletionResult]::new('--channels', '--channels', [CompletionResultType]::ParameterName, 'Where a client''s first channels come from: off (the listener alone), path or query (of the URL) [default: off]')
            [CompletionResult]::new('--allow-channels', '--allow-channels', [CompletionResultType]::ParameterName, 'Channels that a URL may ask for (repeatable); * spans any characters')
            [CompletionResult]::new('--presence', '--presence', [CompletionResultType]::ParameterName, 'Channels whose members are told who joins and leaves (repeatable); * spans any characters')
            [CompletionResult]::new('--history', '--history', [CompletionResultType]::ParameterName, 'Number of messages to keep of each channel, and of what goes to all clients')
            [CompletionResult]::new('--cluster', '--cluster', [CompletionResultType]::ParameterName, 'How messages are shared with other nodes: off, ordered (one order on all nodes) or core [default: off]')
            [CompletionResult]::new('--on-engine-loss', '--on-engine-loss', [CompletionResultType]::ParameterName, 'What happens while no NATS server can be reached: local (own clients get their messages) or hold [default: local]')
            [CompletionResult]::new('--window', '--window', [CompletionResultType]::ParameterName, 'Maximum number of unanswered events [default: 256]')
            [CompletionResult]::new('--listener-timeout', '--listener-timeout', [CompletionResultType]::ParameterName, 'How long an answer may take [default: 10s]')
            [CompletionResult]::new('--on-timeout', '--on-timeout', [CompletionResultType]::ParameterName, 'What happens to a message without an answer: drop, broadcast or close [default: drop]')
            [CompletionResult]::new('--hang-timeout', '--hang-timeout', [CompletionResultType]::ParameterName, 'Time without output after which a listener that owes an answer is killed; at least twice listener-timeout [default: 30s]')
            [CompletionResult]::new('--restart-delay-max', '--restart-delay-max', [CompletionResultType]::ParameterName, 'Longest delay before a listener is restarted [default: 30s]')
            [CompletionResult]::new('--drain', '--drain', [CompletionResultType]::ParameterName, 'How long a stop waits for unanswered events [default: 1s]')
            [CompletionResult]::new('--close-spread', '--close-spread', [CompletionResultType]::ParameterName, 'Time over which a stop closes the clients, so that they do not all reconnect at once [default: 0]')
            [CompletionResult]::new('--producer-wait', '--producer-wait', [CompletionResultType]::ParameterName, 'How long a stream of messages waits in total for one client that is slow but still reading [default: 10s]')
            [CompletionResult]::new('--max-connections', '--max-connections', [CompletionResultType]::ParameterName, 'Maximum number of connections [default: 1000000]')
            [CompletionResult]::new('--max-connections-per-ip', '--max-connections-per-ip', [CompletionResultType]::ParameterName, 'Maximum number of connections from one address (IPv6: one /64); 0 means no limit [default: 0]')
            [CompletionResult]::new('--max-channels', '--max-channels', [CompletionResultType]::ParameterName, 'Maximum number of channels that one connection is in [default: 64]')
            [CompletionResult]::new('--handshake-timeout', '--handshake-timeout', [CompletionResultType]::ParameterName, 'Time to receive the request of a handshake [default: 10s]')
            [CompletionResult]::new('--max-message', '--max-message', [CompletionResultType]::ParameterName, 'Largest message from a client [default: 1MiB]')
            [CompletionResult]::new('--max-queue', '--max-queue', [CompletionResultType]::ParameterName, 'Maximum number of bytes that wait for one slow client [default: 4MiB]')
            [CompletionResult]::new('--ping-interval', '--ping-interval', [CompletionResultType]::ParameterName, 'Time between pings; 0 means no pings [default: 30s]')
            [CompletionResult]::new('--pong-timeout', '--pong-timeout', [CompletionResultType]::ParameterName, 'Time to answer a ping [default: 30s]')
            [CompletionResult]::new('--idle-timeout', '--idle-timeout', [CompletionResultType]::ParameterName, 'Time without a message in either direction after which a connection is closed; 0 means never [default: 0]')
            [CompletionResult]::new('--allow-origin', '--allow-origin', [CompletionResultType]::ParameterName, 'Origin that may connect (repeatable): scheme://host or scheme://host:port, with * as a wildcard [default: localhost on a loopback address, else the same host]')
            [CompletionResult]::new('--trusted-proxies', '--trusted-proxies', [CompletionResultType]::ParameterName, 'Proxy (address or CIDR) whose X-Forwarded-For is trusted (repeatable)')
            [CompletionResult]::new('--proxy-protocol', '--proxy-protocol', [CompletionResultType]::ParameterName, 'Expect the PROXY protocol (v1 or v2) on each connection, from trusted-proxies alone [default: false]')
            [CompletionResult]::new('--mode', '--mode', [CompletionResultType]::ParameterName, 'Mode of the unix socket [default: 0600]')
            [CompletionResult]::new('--group', '--group', [CompletionResultType]::ParameterName, 'Group of the unix socket')
            [CompletionResult]::new('--max-rate', '--max-rate', [CompletionResultType]::ParameterName, 'Maximum number of messages per second from one connection; 0 means no limit [default: 0]')
            [CompletionResult]::new('--max-line', '--max-line', [CompletionResultType]::ParameterName, 'Longest line from the listener; at least six times max-message plus 64KiB [default: 16MiB]')
            [CompletionResult]::new('--tls-cert', '--tls-cert', [CompletionResultType]::ParameterName, 'Certificate chain (PEM) for wss')
            [CompletionResult]::new('--tls-key', '--tls-key', [CompletionResultType]::ParameterName, 'Private key (PEM) for wss')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print the findings and the steps as JSON')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Do not log to stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Do not log to stderr')
            [CompletionResult]::new('--plain', '--plain', [CompletionResultType]::ParameterName, 'The listener reads and writes bare messages, a line each: the same as --format lines')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;bench' {
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'How many connections')
            [CompletionResult]::new('--connections', '--connections', [CompletionResultType]::ParameterName, 'How many connections')
            [CompletionResult]::new('-d', '-d', [CompletionResultType]::ParameterName, 'How long to measure: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--duration', '--duration', [CompletionResultType]::ParameterName, 'How long to measure: seconds, or 250ms, 1m30s')
            [CompletionResult]::new('--mode', '--mode', [CompletionResultType]::ParameterName, 'What to measure')
            [CompletionResult]::new('--rate', '--rate', [CompletionResultType]::ParameterName, 'Send so many messages a second, whether the answers come or not; without it, the next message follows the answer to the last')
            [CompletionResult]::new('--payload', '--payload', [CompletionResultType]::ParameterName, 'Bytes in a message')
            [CompletionResult]::new('--channel', '--channel', [CompletionResultType]::ParameterName, 'Join this channel by the URL; a gateway with the route "channels" sends what its members send to all of them')
            [CompletionResult]::new('-H', '-H ', [CompletionResultType]::ParameterName, 'Add a request header (repeatable)')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Add a request header (repeatable)')
            [CompletionResult]::new('--cacert', '--cacert', [CompletionResultType]::ParameterName, 'Trust the certificates in this file (PEM)')
            [CompletionResult]::new('--html', '--html', [CompletionResultType]::ParameterName, 'Write the report with its plots to this file, too')
            [CompletionResult]::new('--assert', '--assert', [CompletionResultType]::ParameterName, 'Fail (exit code 1) where the report breaks one of these, such as p99<20ms,lost=0')
            [CompletionResult]::new('--insecure', '--insecure', [CompletionResultType]::ParameterName, 'Do not check the server''s certificate')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print the report as JSON')
            [CompletionResult]::new('--remote', '--remote', [CompletionResultType]::ParameterName, 'Load a server on another machine: ask its owner before')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;completions' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;man' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'wsgw;help' {
            [CompletionResult]::new('serve', 'serve', [CompletionResultType]::ParameterValue, 'Run gateways until SIGINT or SIGTERM')
            [CompletionResult]::new('send', 'send', [CompletionResultType]::ParameterValue, 'Send a message to the connected clients')
            [CompletionResult]::new('connect', 'connect', [CompletionResultType]::ParameterValue, 'Connect to a WebSocket server, at a terminal or in a pipe')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'Show state, address, connections, listener and messages of all gateways, or of one')
            [CompletionResult]::new('start', 'start', [CompletionResultType]::ParameterValue, 'Start a gateway')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop a gateway and close its connections with code 1001')
            [CompletionResult]::new('restart', 'restart', [CompletionResultType]::ParameterValue, 'Restart a gateway, or only its listener')
            [CompletionResult]::new('reload', 'reload', [CompletionResultType]::ParameterValue, 'Read the config file again; an invalid file changes nothing')
            [CompletionResult]::new('connections', 'connections', [CompletionResultType]::ParameterValue, 'List the open connections of all gateways, or of one')
            [CompletionResult]::new('channels', 'channels', [CompletionResultType]::ParameterValue, 'List the channels of all gateways, or of one, or show one channel')
            [CompletionResult]::new('history', 'history', [CompletionResultType]::ParameterValue, 'Print the messages that a gateway keeps, one per line')
            [CompletionResult]::new('close', 'close', [CompletionResultType]::ParameterValue, 'Close one connection')
            [CompletionResult]::new('open', 'open', [CompletionResultType]::ParameterValue, 'Open the operators'' page in a browser: print a link that is good once, for a minute')
            [CompletionResult]::new('top', 'top', [CompletionResultType]::ParameterValue, 'Watch gateways in the terminal')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Try a listener: start it, send it what a gateway sends, and say what is wrong with it')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Load a gateway, or another WebSocket server, and report rates, latencies and losses')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print the completion script for a shell')
            [CompletionResult]::new('man', 'man', [CompletionResultType]::ParameterValue, 'Write the man pages')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'wsgw;help;serve' {
            break
        }
        'wsgw;help;send' {
            break
        }
        'wsgw;help;connect' {
            break
        }
        'wsgw;help;status' {
            break
        }
        'wsgw;help;start' {
            break
        }
        'wsgw;help;stop' {
            break
        }
        'wsgw;help;restart' {
            break
        }
        'wsgw;help;reload' {
            break
        }
        'wsgw;help;connections' {
            break
        }
        'wsgw;help;channels' {
            break
        }
        'wsgw;help;history' {
            break
        }
        'wsgw;help;close' {
            break
        }
        'wsgw;help;open' {
            break
        }
        'wsgw;help;top' {
            break
        }
        'wsgw;help;check' {
            break
        }
        'wsgw;help;bench' {
            break
        }
        'wsgw;help;completions' {
            break
        }
        'wsgw;help;man' {
            break
        }
        'wsgw;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
