# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_wsgw_global_optspecs
    string join \n h/help V/version
end

function __fish_wsgw_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_wsgw_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_wsgw_using_subcommand
    set -l cmd (__fish_wsgw_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c wsgw -n "__fish_wsgw_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgw -n "__fish_wsgw_needs_command" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "serve" -d 'Run gateways until SIGINT or SIGTERM'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "send" -d 'Send a message to the connected clients'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "connect" -d 'Connect to a WebSocket server, at a terminal or in a pipe'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "status" -d 'Show state, address, connections, listener and messages of all gateways, or of one'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "start" -d 'Start a gateway'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "stop" -d 'Stop a gateway and close its connections with code 1001'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "restart" -d 'Restart a gateway, or only its listener'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "reload" -d 'Read the config file again; an invalid file changes nothing'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "connections" -d 'List the open connections of all gateways, or of one'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "channels" -d 'List the channels of all gateways, or of one, or show one channel'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "history" -d 'Print the messages that a gateway keeps, one per line'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "close" -d 'Close one connection'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "open" -d 'Open the operators\' page in a browser: print a link that is good once, for a minute'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "top" -d 'Watch gateways in the terminal'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "check" -d 'Try a listener: start it, send it what a gateway sends, and say what is wrong with it'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "bench" -d 'Load a gateway, or another WebSocket server, and report rates, latencies and losses'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "completions" -d 'Print the completion script for a shell'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "man" -d 'Write the man pages'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l config -d 'Config file (TOML) [default: wsgw/wsgw.toml in the user\'s config directory, then /etc/wsgw/wsgw.toml]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l id -d 'Id of the gateway that the flags apply to [default: default]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l control -d 'Control port: ADDR:PORT, unix:PATH or off [default: 127.0.0.1:10124]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l control-token-file -d 'Read the control token from this file instead of making a new one' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l log-dir -d 'Directory of WebSocket.log; it must be writable [default: logs in the user\'s state directory]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l log-level -d 'Log level: error, warn, info, debug, trace, or a filter as in RUST_LOG [default: info]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l host -d 'Address or name to bind (if a name has several addresses, one is bound, IPv4 first), or unix:PATH [default: 127.0.0.1]' -r -f -a "(__fish_print_hostnames)"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l port -d 'Port to bind; 0 takes a free one [default: 10125]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l startup -d 'When the gateway starts: automatic (with serve), manual (by wsgw start) or disabled [default: automatic]' -r -f -a "automatic\t''
manual\t''
disabled\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l listener -d 'Command line of the listener, run by `sh -c`' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l hooks -d 'Events that the listener is sent: onHandshake, onClientOpen, onJoin, onMessage, onLeave, onClientClose, or none [default: onClientOpen,onClientClose,onMessage]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l route -d 'Recipients of a message if the answer names none: all, others, sender, channels (the members of the sender\'s) or none [default: all]' -r -f -a "all\t''
others\t''
sender\t''
channels\t''
none\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l headers -d 'Request headers that the listener sees; * for all [default: origin, cookie, authorization, user-agent, x-forwarded-for, x-*]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l protocol -d 'Subprotocol to accept (repeatable); * accepts the client\'s first offer [default: *]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l path -d 'Path that accepts connections (repeatable); * spans any characters [default: any]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l streams -d 'Also serve streams over plain HTTP: server-sent events, lines, raw bodies, polls, and POST [default: false]' -r -f -a "true\t''
false\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l static -d 'Directory of static files to serve' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l console -d 'Serve a page at / to try the gateway with [default: true on a loopback address or a unix socket]' -r -f -a "true\t''
false\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l format -d 'Form of what the listener reads and writes: json (events and answers) or lines (bare messages) [default: json]' -r -f -a "json\t''
lines\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l compression -d 'Compression of messages (permessage-deflate): off or shared (once for all clients) [default: off]' -r -f -a "off\t''
shared\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l channels -d 'Where a client\'s first channels come from: off (the listener alone), path or query (of the URL) [default: off]' -r -f -a "off\t''
path\t''
query\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l allow-channels -d 'Channels that a URL may ask for (repeatable); * spans any characters' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l presence -d 'Channels whose members are told who joins and leaves (repeatable); * spans any characters' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l history -d 'Number of messages to keep of each channel, and of what goes to all clients' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l cluster -d 'How messages are shared with other nodes: off, ordered (one order on all nodes) or core [default: off]' -r -f -a "off\t''
ordered\t''
core\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l on-engine-loss -d 'What happens while no NATS server can be reached: local (own clients get their messages) or hold [default: local]' -r -f -a "local\t''
hold\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l window -d 'Maximum number of unanswered events [default: 256]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l listener-timeout -d 'How long an answer may take [default: 10s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l on-timeout -d 'What happens to a message without an answer: drop, broadcast or close [default: drop]' -r -f -a "drop\t''
broadcast\t''
close\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l hang-timeout -d 'Time without output after which a listener that owes an answer is killed; at least twice listener-timeout [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l restart-delay-max -d 'Longest delay before a listener is restarted [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l drain -d 'How long a stop waits for unanswered events [default: 1s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l close-spread -d 'Time over which a stop closes the clients, so that they do not all reconnect at once [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l producer-wait -d 'How long a stream of messages waits in total for one client that is slow but still reading [default: 10s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-connections -d 'Maximum number of connections [default: 1000000]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-connections-per-ip -d 'Maximum number of connections from one address (IPv6: one /64); 0 means no limit [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-channels -d 'Maximum number of channels that one connection is in [default: 64]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l handshake-timeout -d 'Time to receive the request of a handshake [default: 10s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-message -d 'Largest message from a client [default: 1MiB]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-queue -d 'Maximum number of bytes that wait for one slow client [default: 4MiB]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l ping-interval -d 'Time between pings; 0 means no pings [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l pong-timeout -d 'Time to answer a ping [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l idle-timeout -d 'Time without a message in either direction after which a connection is closed; 0 means never [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l allow-origin -d 'Origin that may connect (repeatable): scheme://host or scheme://host:port, with * as a wildcard [default: localhost on a loopback address, else the same host]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l trusted-proxies -d 'Proxy (address or CIDR) whose X-Forwarded-For is trusted (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l proxy-protocol -d 'Expect the PROXY protocol (v1 or v2) on each connection, from trusted-proxies alone [default: false]' -r -f -a "true\t''
false\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l mode -d 'Mode of the unix socket [default: 0600]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l group -d 'Group of the unix socket' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-rate -d 'Maximum number of messages per second from one connection; 0 means no limit [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-line -d 'Longest line from the listener; at least six times max-message plus 64KiB [default: 16MiB]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l tls-cert -d 'Certificate chain (PEM) for wss' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l tls-key -d 'Private key (PEM) for wss' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l check-config -d 'Say whether the config file and the flags are good, with all that is wrong; bind and start nothing'
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -s q -l quiet -d 'Do not log to stderr'
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l plain -d 'The listener reads and writes bare messages, a line each: the same as --format lines'
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -s g -l gateway -d 'The gateway; may be left out when only one runs' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l to -d 'Send only to this connection (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l except -d 'Do not send to this connection (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l channel -d 'Send only to the members of this channel (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l data -d 'Send this JSON object, which has the key message or base64' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l retry -d 'Keep trying for this time if the control port cannot be reached: seconds, or 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l base64 -d 'Read the message as base64 and send it as binary'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l binary -d 'Send stdin as one binary message'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l lines -d 'Send each line of stdin as one message, as soon as it arrives'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l no-hook -d 'Do not pass the message through the listener'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l require-one -d 'Fail (exit code 4) if no client got the message'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l require-all-nodes -d 'Fail (exit code 4) if a node of the cluster did not say in time what came of it'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l json -d 'Print the result as JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -s q -l quiet -d 'Print only errors'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s H -l header -d 'Add a request header, or all headers in a file, one per line (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s s -l subprotocol -d 'Offer a subprotocol (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s o -l origin -d 'Send this Origin header' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s u -l user -d 'Use basic authentication; with NAME alone, ask for the password at the terminal' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l user-file -d 'Use basic authentication with the NAME:PASSWORD in this file' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s x -l execute -d 'Send this message after connecting (repeatable); stdin is not read, except with -w -1 at a terminal' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s n -l count -d 'Leave after N received messages' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s w -l wait -d 'After the end of stdin, leave if no message arrives for this time; -1 stays [default: 1; with -n or --echo: -1]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l proxy -d 'Connect through this proxy: http://, https:// or socks5h://, with USER:PASSWORD@ before the host; \'\' uses none; loopback needs none [env: https_proxy, http_proxy, all_proxy, no_proxy]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l ping -d 'Send a ping at this interval' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l timeout -d 'Time for the whole handshake' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l color -d 'Colours: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l cacert -d 'Trust the certificates in this file (PEM)' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l cert -d 'Use this client certificate (PEM)' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l key -d 'Use this key for the client certificate (PEM)' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s b -l binary -d 'Send lines as binary messages, and write received messages raw, without a newline'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s L -l location -d 'Follow up to five redirects; -H, user and password and --cert go to the same host only'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l compress -d 'Offer compression (permessage-deflate)'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l reconnect -d 'Reconnect, with growing delays, after a failure, a lost connection or a close code other than 1000'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l resume -d 'Reconnect in the same way, and get the messages that were missed; the server must speak wsgw.v1'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l echo -d 'Send each received message back'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l pretty -d 'Indent JSON messages'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l timestamps -d 'Print the time before each message'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l insecure -d 'Do not check the server\'s certificate'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s v -l verbose -d 'Show the handshake'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l no-history -d 'Neither read nor write the history file'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -l nodes -d 'Show the nodes of the gateway\'s cluster'
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l listener -d 'Restart only the listener; the clients stay connected'
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l channel -d 'Show only the members of this channel' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l limit -d 'Show at most N connections of each gateway' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l after -d 'Show only those that connected after this connection, which may be closed' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l local -d 'Of a cluster\'s nodes, ask only this one'
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand channels" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand channels" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand channels" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand channels" -l local -d 'Count only the members on this node of a cluster'
complete -c wsgw -n "__fish_wsgw_using_subcommand channels" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand channels" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand channels" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand history" -l channel -d 'Print only the messages of this channel (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand history" -l since -d 'Print only what came since: last, a number of messages of each channel, a duration such as 5m, or a position' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand history" -l limit -d 'Print at most N messages: the oldest after a position, else the newest' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand history" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand history" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand history" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand history" -l json -d 'Print JSON frames, which have the positions'
complete -c wsgw -n "__fish_wsgw_using_subcommand history" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand history" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l code -d 'Send this close code' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l reason -d 'Send this close reason' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand open" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand open" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand open" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand open" -l print -d 'Print the link, and open no browser'
complete -c wsgw -n "__fish_wsgw_using_subcommand open" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand open" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand top" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand top" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand top" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand top" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand top" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l url -d 'Path and query of the clients that are played [default: the first path of the gateway, or /]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -s H -l header -d 'A request header of the clients that are played (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l config -d 'Config file (TOML) [default: wsgw/wsgw.toml in the user\'s config directory, then /etc/wsgw/wsgw.toml]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l id -d 'Id of the gateway that the flags apply to [default: default]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l control -d 'Control port: ADDR:PORT, unix:PATH or off [default: 127.0.0.1:10124]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l control-token-file -d 'Read the control token from this file instead of making a new one' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l log-dir -d 'Directory of WebSocket.log; it must be writable [default: logs in the user\'s state directory]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l log-level -d 'Log level: error, warn, info, debug, trace, or a filter as in RUST_LOG [default: info]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l host -d 'Address or name to bind (if a name has several addresses, one is bound, IPv4 first), or unix:PATH [default: 127.0.0.1]' -r -f -a "(__fish_print_hostnames)"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l port -d 'Port to bind; 0 takes a free one [default: 10125]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l startup -d 'When the gateway starts: automatic (with serve), manual (by wsgw start) or disabled [default: automatic]' -r -f -a "automatic\t''
manual\t''
disabled\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l listener -d 'Command line of the listener, run by `sh -c`' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l hooks -d 'Events that the listener is sent: onHandshake, onClientOpen, onJoin, onMessage, onLeave, onClientClose, or none [default: onClientOpen,onClientClose,onMessage]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l route -d 'Recipients of a message if the answer names none: all, others, sender, channels (the members of the sender\'s) or none [default: all]' -r -f -a "all\t''
others\t''
sender\t''
channels\t''
none\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l headers -d 'Request headers that the listener sees; * for all [default: origin, cookie, authorization, user-agent, x-forwarded-for, x-*]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l protocol -d 'Subprotocol to accept (repeatable); * accepts the client\'s first offer [default: *]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l path -d 'Path that accepts connections (repeatable); * spans any characters [default: any]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l streams -d 'Also serve streams over plain HTTP: server-sent events, lines, raw bodies, polls, and POST [default: false]' -r -f -a "true\t''
false\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l static -d 'Directory of static files to serve' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l console -d 'Serve a page at / to try the gateway with [default: true on a loopback address or a unix socket]' -r -f -a "true\t''
false\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l format -d 'Form of what the listener reads and writes: json (events and answers) or lines (bare messages) [default: json]' -r -f -a "json\t''
lines\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l compression -d 'Compression of messages (permessage-deflate): off or shared (once for all clients) [default: off]' -r -f -a "off\t''
shared\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l channels -d 'Where a client\'s first channels come from: off (the listener alone), path or query (of the URL) [default: off]' -r -f -a "off\t''
path\t''
query\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l allow-channels -d 'Channels that a URL may ask for (repeatable); * spans any characters' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l presence -d 'Channels whose members are told who joins and leaves (repeatable); * spans any characters' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l history -d 'Number of messages to keep of each channel, and of what goes to all clients' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l cluster -d 'How messages are shared with other nodes: off, ordered (one order on all nodes) or core [default: off]' -r -f -a "off\t''
ordered\t''
core\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l on-engine-loss -d 'What happens while no NATS server can be reached: local (own clients get their messages) or hold [default: local]' -r -f -a "local\t''
hold\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l window -d 'Maximum number of unanswered events [default: 256]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l listener-timeout -d 'How long an answer may take [default: 10s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l on-timeout -d 'What happens to a message without an answer: drop, broadcast or close [default: drop]' -r -f -a "drop\t''
broadcast\t''
close\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l hang-timeout -d 'Time without output after which a listener that owes an answer is killed; at least twice listener-timeout [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l restart-delay-max -d 'Longest delay before a listener is restarted [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l drain -d 'How long a stop waits for unanswered events [default: 1s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l close-spread -d 'Time over which a stop closes the clients, so that they do not all reconnect at once [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l producer-wait -d 'How long a stream of messages waits in total for one client that is slow but still reading [default: 10s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l max-connections -d 'Maximum number of connections [default: 1000000]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l max-connections-per-ip -d 'Maximum number of connections from one address (IPv6: one /64); 0 means no limit [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l max-channels -d 'Maximum number of channels that one connection is in [default: 64]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l handshake-timeout -d 'Time to receive the request of a handshake [default: 10s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l max-message -d 'Largest message from a client [default: 1MiB]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l max-queue -d 'Maximum number of bytes that wait for one slow client [default: 4MiB]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l ping-interval -d 'Time between pings; 0 means no pings [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l pong-timeout -d 'Time to answer a ping [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l idle-timeout -d 'Time without a message in either direction after which a connection is closed; 0 means never [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l allow-origin -d 'Origin that may connect (repeatable): scheme://host or scheme://host:port, with * as a wildcard [default: localhost on a loopback address, else the same host]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l trusted-proxies -d 'Proxy (address or CIDR) whose X-Forwarded-For is trusted (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l proxy-protocol -d 'Expect the PROXY protocol (v1 or v2) on each connection, from trusted-proxies alone [default: false]' -r -f -a "true\t''
false\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l mode -d 'Mode of the unix socket [default: 0600]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l group -d 'Group of the unix socket' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l max-rate -d 'Maximum number of messages per second from one connection; 0 means no limit [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l max-line -d 'Longest line from the listener; at least six times max-message plus 64KiB [default: 16MiB]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l tls-cert -d 'Certificate chain (PEM) for wss' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l tls-key -d 'Private key (PEM) for wss' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l json -d 'Print the findings and the steps as JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -s q -l quiet -d 'Do not log to stderr'
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -l plain -d 'The listener reads and writes bare messages, a line each: the same as --format lines'
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand check" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -s c -l connections -d 'How many connections' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -s d -l duration -d 'How long to measure: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l mode -d 'What to measure' -r -f -a "fanout\t'One connection sends, all receive'
echo\t'Each connection sends, and gets its own messages back'
idle\t'Connections are opened and do nothing'
connect\t'Connections are opened and closed, over and over'"
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l rate -d 'Send so many messages a second, whether the answers come or not; without it, the next message follows the answer to the last' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l payload -d 'Bytes in a message' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l channel -d 'Join this channel by the URL; a gateway with the route "channels" sends what its members send to all of them' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -s H -l header -d 'Add a request header (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l cacert -d 'Trust the certificates in this file (PEM)' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l html -d 'Write the report with its plots to this file, too' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l assert -d 'Fail (exit code 1) where the report breaks one of these, such as p99<20ms,lost=0' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l insecure -d 'Do not check the server\'s certificate'
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l json -d 'Print the report as JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -l remote -d 'Load a server on another machine: ask its owner before'
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgw -n "__fish_wsgw_using_subcommand bench" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand completions" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand completions" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand man" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand man" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "serve" -d 'Run gateways until SIGINT or SIGTERM'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "send" -d 'Send a message to the connected clients'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "connect" -d 'Connect to a WebSocket server, at a terminal or in a pipe'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "status" -d 'Show state, address, connections, listener and messages of all gateways, or of one'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "start" -d 'Start a gateway'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "stop" -d 'Stop a gateway and close its connections with code 1001'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "restart" -d 'Restart a gateway, or only its listener'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "reload" -d 'Read the config file again; an invalid file changes nothing'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "connections" -d 'List the open connections of all gateways, or of one'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "channels" -d 'List the channels of all gateways, or of one, or show one channel'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "history" -d 'Print the messages that a gateway keeps, one per line'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "close" -d 'Close one connection'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "open" -d 'Open the operators\' page in a browser: print a link that is good once, for a minute'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "top" -d 'Watch gateways in the terminal'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "check" -d 'Try a listener: start it, send it what a gateway sends, and say what is wrong with it'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "bench" -d 'Load a gateway, or another WebSocket server, and report rates, latencies and losses'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "completions" -d 'Print the completion script for a shell'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "man" -d 'Write the man pages'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections channels history close open top check bench completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
