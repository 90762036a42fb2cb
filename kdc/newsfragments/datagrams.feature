`kdcclient expose dns=udp:127.0.0.1:53` and `forward --to bob dns --listen udp:5353` carry UDP.
